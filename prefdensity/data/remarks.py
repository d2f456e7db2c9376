"""Remarks on a table, and of which programs they are true."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Remark:
    """What a careful statistician would say of a table, and of which programs it is true.

    Attributes
    ----------
    says
        The sentence.
    concerns
        Only programs that know of this: "item" where each item has a utility of its own, or a label or column of the
        table such as "annotator"; "" all programs.
    answered_by
        Programs that know of this account for what the sentence warns of; "" none does.
    tested_by
        The check of a fit that tells whether it matters to the program; "" none does.
    """

    says: str
    concerns: str = ""
    answered_by: str = ""
    tested_by: str = ""
