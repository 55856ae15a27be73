"""The client library, blocking and on trio, against a made-up daemon."""

import pytest
import trio
import trio.testing

from modelkeep import aio
from modelkeep.client import Client, ModelkeepError, NoDaemon, to_result
from modelkeep_protocol import methods, schema
from tests.fakes.daemon import FakeDaemon


@pytest.fixture
def socket(tmp_path):
    return str(tmp_path / "rpc.sock")


# -- blocking ---------------------------------------------------------------------------------


def test_typed_calls(socket):
    with FakeDaemon(socket), Client(socket) as keeper:
        assert keeper.status().catalog.models == 1102
        assert keeper.search("x", limit=2).items[1].ref == "civitai:2"
        assert keeper.show("civitai:1102").versions[0].files[0].primary
        job = keeper.get(["civitai:1"]).jobs[0]
        assert isinstance(job, schema.Job)
        assert [j.id for j in keeper.jobs([job.id])] == [job.id]
        assert keeper.files()[0].state == "present"
        roots = keeper.call(methods.LIBRARY_ADD, schema.AddRoot("/data"))
        assert roots.items[0].path == "/data"
        assert keeper.call(methods.LIBRARY_ADD, {"path": "/b"}).items[0].path == "/b"


def test_the_daemons_errors_are_raised(socket):
    with FakeDaemon(socket), Client(socket) as keeper:
        with pytest.raises(ModelkeepError) as caught:
            keeper.show("civitai:9")
        assert caught.value.code == "not_found"
        with pytest.raises(ModelkeepError) as caught:
            keeper.call("no.such_method")
        assert caught.value.code == "unsupported"


def test_an_answer_of_a_wrong_form_is_an_error_not_a_surprise():
    with pytest.raises(ModelkeepError, match="not what it should be"):
        to_result(methods.DAEMON_PING, {"at_ms": "noon"})
    assert to_result("a.later_method", {"x": 1}) == {"x": 1}


def test_a_deadline_is_kept_and_the_connection_goes_on(socket):
    with FakeDaemon(socket) as daemon, Client(socket) as keeper:
        daemon.unanswered.add(methods.CATALOG_SHOW)
        with pytest.raises(ModelkeepError) as caught:
            keeper.call(methods.CATALOG_SHOW, {"ref": "x"}, deadline_s=0.01)
        assert caught.value.code == "deadline"
        assert keeper.call(methods.DAEMON_PING).at_ms


def test_the_next_call_after_a_restart_connects_again(socket):
    with FakeDaemon(socket):
        keeper = Client(socket)
        keeper.status()
    with pytest.raises(NoDaemon):
        keeper.status()
    with pytest.raises(NoDaemon):
        keeper.status()
    with FakeDaemon(socket):
        assert keeper.status().daemon.pid == 4242
        keeper.close()


def test_events_go_on_after_a_restart(socket):
    with FakeDaemon(socket) as daemon, Client(socket) as keeper:
        pages = keeper.events(topics=["library"])
        assert next(pages).cursor == "e1:0"
        daemon.emit("library", "file.added", "/a")
        assert [event.subject for event in next(pages).events] == ["/a"]
        world = daemon.world
    world.emit("library", "file.added", "/b")
    again = FakeDaemon(socket)
    again.world = world
    with again:
        assert [event.subject for event in next(pages).events] == ["/b"]
        pages.close()


def test_events_of_nobody_are_an_error_at_once(socket):
    with FakeDaemon(socket), Client(socket) as keeper:
        pages = keeper.events(reconnect=False)
        next(pages)
    with pytest.raises(NoDaemon):
        next(pages)
    with pytest.raises(NoDaemon):
        Client(socket)


# -- trio -------------------------------------------------------------------------------------


async def test_calls_at_once_on_one_connection(socket):
    with FakeDaemon(socket) as daemon:
        async with aio.open_client(socket) as keeper, trio.open_nursery() as nursery:
            seen = []

            async def show(limit: int) -> None:
                seen.append(len((await keeper.search("x", limit=limit)).items))

            for limit in range(10):
                nursery.start_soon(show, limit)
        assert sorted(seen) == list(range(10))
        assert len(daemon._sessions) == 1


async def test_typed_calls_and_errors_on_trio(socket):
    with FakeDaemon(socket):
        async with aio.open_client(socket) as keeper:
            assert (await keeper.status()).library.files == 3
            assert (await keeper.get(["civitai:1"])).jobs[0].id == 1
            assert [job.id for job in await keeper.jobs([1])] == [1]
            assert (await keeper.show("civitai:1102")).name == "水彩 Style"
            with pytest.raises(ModelkeepError) as caught:
                await keeper.show("civitai:9")
            assert caught.value.code == "not_found"


async def test_a_canceled_call_is_canceled_in_the_daemon(socket):
    with FakeDaemon(socket) as daemon:
        daemon.unanswered.add(methods.CATALOG_SHOW)
        async with aio.open_client(socket) as keeper:
            with trio.move_on_after(0.1) as scope:
                await keeper.show("civitai:1102")
            assert scope.cancelled_caught
            # the connection is as good as before, and the cancel went before this
            await keeper.status()
            (session,) = daemon._sessions.values()
            assert session.open_calls == set()


async def test_a_deadline_on_trio(socket, mock_clock):
    with FakeDaemon(socket) as daemon:
        daemon.unanswered.add(methods.DAEMON_PING)
        async with aio.open_client(socket) as keeper, trio.open_nursery() as nursery:

            @nursery.start_soon
            async def wait_in_vain() -> None:
                with pytest.raises(ModelkeepError) as caught:
                    await keeper.call(methods.DAEMON_PING, deadline_s=20.0)
                assert caught.value.code == "deadline"

            await trio.to_thread.run_sync(daemon.wait_called, methods.DAEMON_PING)
            mock_clock.jump(21.5)


async def test_what_is_raised_inside_comes_out_as_it_was(socket):
    with pytest.raises(NoDaemon):
        async with aio.open_client(socket) as keeper:
            await keeper.status()
    with FakeDaemon(socket), pytest.raises(KeyError, match="mine"):
        await raise_inside(socket)


async def raise_inside(socket: str) -> None:
    async with aio.open_client(socket) as keeper:
        await keeper.status()
        raise KeyError("mine")


async def test_open_calls_fail_when_the_daemon_goes_and_the_next_connects_again(socket):
    async with aio.open_client(socket) as keeper:
        with pytest.raises(NoDaemon):
            await keeper.status()
        failed = []

        async def wait_in_vain() -> None:
            with pytest.raises(NoDaemon):
                await keeper.show("civitai:1102")
            failed.append(True)

        async with trio.open_nursery() as nursery:
            with FakeDaemon(socket) as daemon:
                daemon.unanswered.add(methods.CATALOG_SHOW)
                nursery.start_soon(wait_in_vain)
                await trio.to_thread.run_sync(daemon.wait_called, methods.CATALOG_SHOW)
        assert failed == [True]
        with FakeDaemon(socket):
            assert (await keeper.status()).daemon.pid == 4242


async def test_a_watch_goes_on_after_a_restart_and_misses_nothing(socket):
    async with aio.open_client(socket) as keeper:
        with FakeDaemon(socket) as daemon:
            watch = keeper.watch(topics=["sync"])
            assert (await anext(watch)).cursor == "e1:0"
            for number in range(20):  # more pages than the credit given at first
                daemon.emit("sync", "odd", str(number))
                assert (await anext(watch)).events[0].subject == str(number)
            world = daemon.world
        world.emit("sync", "run.failed", "civitai")
        again = FakeDaemon(socket)
        again.world = world
        with again:
            assert [event.kind for event in (await anext(watch)).events] == ["run.failed"]
            assert watch.cursor == "e1:21"
        other = FakeDaemon(socket, epoch="e2")
        with other:
            page = await anext(watch)
            assert page.fresh
            assert watch.cursor == "e2:0"


async def test_leaving_a_watch_ends_the_stream(socket):
    with FakeDaemon(socket) as daemon:
        async with aio.open_client(socket) as keeper:
            async with keeper.watch() as pages:
                await anext(pages)
            await keeper.status()
            assert daemon._streams == {}


async def test_what_a_watch_asks_wrongly_is_raised(socket):
    with FakeDaemon(socket):
        async with aio.open_client(socket) as keeper:
            with pytest.raises(ModelkeepError) as caught:
                await anext(keeper.watch(topics=["x"] * 30))
            assert caught.value.code == "invalid"


async def test_a_hung_daemon_is_given_up(socket, mock_clock):
    """It listens and never answers, not even a ping."""
    with FakeDaemon(socket) as daemon:
        async with aio.open_client(socket) as keeper:
            await keeper.status()
            daemon.unanswered.add(methods.CATALOG_SHOW)
            daemon.is_deaf = True
            async with trio.open_nursery() as nursery:
                failed = trio.Event()

                async def wait_in_vain() -> None:
                    with pytest.raises(NoDaemon, match="silent"):
                        await keeper.call(
                            methods.CATALOG_SHOW, {"ref": "x"}, deadline_s=1_000_000.0
                        )
                    failed.set()

                nursery.start_soon(wait_in_vain)
                await trio.testing.wait_all_tasks_blocked()
                while not failed.is_set():
                    mock_clock.jump(10.0)
                    await trio.testing.wait_all_tasks_blocked()
