"""The version, as text that costs no import of package metadata."""

VERSION = "0.1.0"
