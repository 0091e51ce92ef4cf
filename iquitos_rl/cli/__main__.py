"""``python -m iquitos_rl.cli``."""

from iquitos_rl.cli import main

main()
