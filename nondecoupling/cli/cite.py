"""``nondecoupling cite``: what to put into a bibliography."""

from __future__ import annotations

from nondecoupling import __version__

BIBTEX = f"""\
@software{{nondecoupling,
  title   = {{nondecoupling: theorems on the non-decoupling of {{SFT}} and {{RL}} in {{LLM}} post-training, checked}},
  author  = {{{{The nondecoupling developers}}}},
  year    = {{2026}},
  version = {{{__version__}}},
  license = {{Apache-2.0}}
}}

@misc{{niu2026nondecoupling,
  title         = {{On the Non-decoupling of Supervised Fine-tuning and Reinforcement Learning in Post-training}},
  author        = {{Niu and Bai and Han and Zhang}},
  year          = {{2026}},
  eprint        = {{2601.07389}},
  archiveprefix = {{arXiv}}
}}
"""


def cite() -> None:
    """BibTeX entries of the library and of the paper whose claims it examines."""
    print(BIBTEX, end="")
