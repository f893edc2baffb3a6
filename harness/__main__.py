"""`python -m harness` is the same program as `vzero-harness`."""

from harness.cli import app

if __name__ == "__main__":
    app(prog_name="vzero-harness")
