"""The portfolio that a meta model leads to, and its derivative with respect to the meta model.

problem       what is optimised: the operator's terms and a round's risk model, as arrays
features      limits on features, as further factors
turnover      the cost of leaving the portfolio that is held
interface     what every solver offers: solve, and pull a gradient back
structure     the problem without units, and the sums over stocks that every step needs
dual          weights from multipliers, and what is left of the optimality conditions
schur         the small matrix of a step
step          one Newton step: its direction and its length
newton        the structured solver: semismooth Newton on the dual, all bags in one batch
interior_point, interior   for bags on which Newton stalls
kinks         how far a solution is from where its gradient jumps
polish        the last digits of the conditions
gradient      the derivative from the final active set
batch         some bags of a record of tensors, and putting them back
factor_portfolio   the structured solver behind the interface, and as a layer of torch
cvxpy_layer   any problem that an operator writes with cvxpy, behind the same interface
builder       the function that makes such a problem, by its name
cone_program, cones   where such a problem is solved to rounding, and differentiated
solvers       which of the two, on which device, in numpy's terms
"""
