"""How the daemon ends, for the service manager: which ends are worth a restart."""

CLEAN = 0
CRASHED = 1
CONFIG = 78
ALREADY_RUNNING = 79
STORE = 80
OVERRUN = 81

MEANINGS: dict[int, str] = {
    CLEAN: "stopped as asked",
    CRASHED: "an essential service kept crashing; worth a restart",
    CONFIG: "the settings can't be used; a restart won't help",
    ALREADY_RUNNING: "another daemon serves this home; a restart won't help",
    STORE: "the database is damaged, foreign or too new; a restart won't help",
    OVERRUN: "stopping took too long and was cut short; nothing is lost",
}

# for RestartPreventExitStatus= in the unit file
DO_NOT_RESTART = (CONFIG, ALREADY_RUNNING, STORE)


def table() -> str:
    """For ``--help``."""
    return "exit status:\n" + "\n".join(f"  {code:3}  {text}" for code, text in MEANINGS.items())
