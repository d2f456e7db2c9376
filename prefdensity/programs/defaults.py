"""The shipped programs that the library names: what is filled in where nothing is said, examples, and studies."""

# Of compositions: stage -> layer, for comparisons of items and for judged units.
COMPARED = {"utility": "items", "choice": "logit"}
JUDGED = {"label": "gaussian", "judge": "distance", "choice": "logit"}
SCALE = "utility_scale"  # where a utility layer takes a scale
TIES = "davidson"  # the choice rule where a layer is about ties
GRADES = "graded"  # and where one is about strengths of preference

BY = "tastes"  # what differs between groups that are asked for, where no layer reads them
OVER = "drift"  # and what changes over a number that is asked for

# Of help and errors: a first program, one of several layers, and one with arguments.
FIRST, LONGER, LONGEST = "bradley_terry", "davidson+position_bias", "davidson+position_bias+reliability"
WITH_ARGUMENTS = "annotator_types(k=3)+davidson"
NOISE = "flips"  # what is recorded is not always what was meant

# Programs of judged units that the study of designs tries.
STUDIED = (
    "gaussian+noise_free",
    "gaussian+distance",
    "gaussian+distance+lapse",
    "gaussian+distance+position_bias",
)
