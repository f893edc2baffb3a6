"""V-Zero: label-free self-improvement of vision-language models (arXiv 2601.10094).

The method and nothing else: prompts, votes, rewards, GRPO stages, the self-play loop. It knows no command
line, no evaluation suite and no report; those live in `harness`, which imports this package and never the
other way round.
"""

from vzero.runtime.compat import install as _install_compat

__version__ = "0.1.0"

_install_compat()
