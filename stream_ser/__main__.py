"""``python -m stream_ser`` is the ``stream-ser`` command."""

from stream_ser.cli import main

if __name__ == "__main__":
    main()
