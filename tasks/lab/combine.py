"""What a combination of a round's submissions would have given, and what a fit of one needs.

Its weights may be any shares ≥ 0, not only those that some policy makes of the stakes; the meta model and the portfolio
are found as the weekly run finds them.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from scoring.correlation import centre
from scoring.kernels.passes import dot
from scoring.lab.combination import Gram
from scoring.meta_model import from_sums, partial_sums, zero
from scoring.ranks import gauss_table, restrict, values
from tasks.lab.case import RoundCase
from tasks.lab.mechanism import Mechanism
from tasks.lab.score_scene import corr_of, plan_under, solved_portfolio
from tasks.meta_models import BlockSums


def gram_of(case: RoundCase) -> Gram:
    """Returns the inner products of a round's submissions, g, with each other and with the target, centred."""
    targets = case.plan.targets
    ranks = restrict(case.ranks, targets.positions)
    g = values(ranks, gauss_table(ranks.stocks))
    y = centre(targets.target)
    return Gram(ranks.models, g @ g.T, g @ y, float(dot(y, y)), ranks.stocks)


def combined(case: RoundCase, mechanism: Mechanism, shares: Mapping[str, float]) -> tuple[float, float]:
    """Returns CORR and portfolio return of a combination; NaN for what there is not.

    Args:
        case: the round.
        mechanism: whose portfolio it is.
        shares: ≥ 0 by model; of the models that are there they are brought to a sum of 1.
    """
    given = np.array([shares.get(model, 0.0) for model in case.ranks.models])
    if not given.sum() > 0:
        return np.nan, np.nan
    weights: Float64[np.ndarray, "1 model"] = (given / given.sum())[None, :]
    stocks = case.ranks.stocks
    sums = BlockSums(partial_sums(case.ranks, weights), zero(1, stocks), zero(0, stocks))
    earned, _ = solved_portfolio(plan_under(case, case.scene, mechanism), sums, bags=False)
    return corr_of(from_sums(sums.weighted[0]), case.plan.targets), earned
