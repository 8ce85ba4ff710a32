"""Every symbol and word of the report with its definition."""

from __future__ import annotations

from lraee.report.tables import ReportTables
from lraee.report.wording import number

Entries = tuple[tuple[str, str], ...]

_MODEL: Entries = (
    ("L, depth", "Number of transformer blocks executed, counted from 1; depth is the number of all blocks."),
    ("z_L, ẑ_L", "State of all tokens after block L, in FP32 and under the quantizer."),
    ("[CLS]", "The class token of the vision tower, which the model's own head reads."),
    ("Full depth", "All blocks are executed and the model's own head answers; no exit."),
    ("FP32", "The model without quantization, in 32-bit floating point."),
    ("WxAy", "A quantizer with x bits for weights and y for activations; fractions are means over the Linears' MACs."),
    ("Covered", "Share of the vision tower's parameters or MACs that the quantizer reaches."),
    ("Arm", "The quantized model, or its FP32 control."),
)
_NOISE: Entries = (
    ("NSR(L)", "Noise-to-signal ratio: mean over images of ‖ẑ_L − z_L‖ / ‖z_L − z_(L−1)‖, the quantization error "
     "against the block's own update."),
    ("INR(L)", "Information-to-noise ratio: ‖E[z_L]‖² / Var[ẑ_L − z_L], expectation and variance over images."),
    ("SQNR", "Signal-to-quantization-noise ratio in decibels."),
    ("Cosine", "Mean over images of the cosine between ẑ_L and z_L."),
    ("MSE", "Mean squared quantization error per element of the state."),
    ("Peak", "Mean over images of the largest absolute value in the state."),
    ("κ (kappa)", "Factor of the pruning rule: a candidate exit is dropped where INR(L) is below κ times the mean INR "
     "of the candidates."),
    ("Pathological", "A candidate exit that this rule drops."),
)  # fmt: skip
_EXITS: Entries = (
    ("Exit", "A place after a block where an image may leave: its head answers and the other blocks are not executed."),
    ("Head", "LayerNorm, a two-layer MLP, and comparison with the class embeddings."),
    ("SSA, CLS", "What a head reads: the mean of the patch tokens, or the [CLS] token."),
    ("distilled, hard, label-free", "A head's teacher: labels and the FP32 model's embedding; labels alone; the "
     "embedding alone. Without labels gates and thresholds do without them, too."),
    ("Refit, refitted head", "A fresh head on the last layer, with no exit: what learning to live with the noise is "
     "worth by itself."),
    ("Policy", "How ready an image is to leave, a number from 0 to 1 at every exit: confidence, margin of the two "
     "best classes, entropy, patience (how many exits agree), a learned scalar, thresholds by class, a learned gate."),
    ("SAV", "Spatial activation variance: (1/N) Σ ‖patch token − their mean‖² over the N patch tokens, an input of "
     "the learned gate beside confidence and top-2 margin."),
    ("τ (tau)", "Threshold: an image leaves at the first exit where its readiness is above the exit's τ."),
    ("Threshold rule", "How the τ are chosen on the select split: layer-adaptive (one an exit), global (one for all), "
     "or risk-controlled."),
    ("INR exponent", "Scaling of global thresholds: τ · (mean INR / INR(L))^exponent; 0 leaves them equal."),
    ("Budget", "Least share of the compute that chosen thresholds must save on the select split."),
    ("Headline", "The one configuration that was fixed beforehand as the base of the experiment."),
    ("Static exit", "Every image leaves at the same layer."),
    ("CLS-EE", "Early exit with heads on [CLS], a baseline of the paper."),
    ("Oracle", "Leaves at the first exit that is right; needs the test labels, so it is a bound and no method."),
    ("Random", "Deals the headline's exit shares to images blindly."),
)  # fmt: skip
_COMPARISON: Entries = (
    ("Top-1", "Share of images whose first answer is right."),
    ("Rescue", "Images right when routed and wrong at full depth of the same arm (R \\ F)."),
    ("Loss", "Images right at full depth and wrong when routed (F \\ R)."),
    ("Quadrants", "Both right, rescue, loss, both wrong: every image is in exactly one."),
    ("Margin", "(rescue − loss) / n, in percentage points: accuracy routed minus accuracy at full depth."),
    ("FP32 control", "The same exits, heads, gates and rules, fitted and run without quantization."),
    ("Attributable", "Margin under the quantizer minus margin of its FP32 control, on the same images."),
    ("Churn", "Answers that change between two models at full depth, both ways, with no exit."),
    ("Disagreement", "Share of images whose routed answer differs from the same arm's full-depth answer."),
    ("Accuracy gap", "Accuracy at full depth minus accuracy routed; negative where early exit gains."),
    ("AUROC", "Probability that the gate finds a random image that an exit gets right readier than one that it gets "
     "wrong."),
    ("Pareto-optimal, on the frontier", "No other point is at least as good in accuracy and saved compute and better "
     "in one, on the select split."),
)  # fmt: skip
_COMPUTE: Entries = (
    ("MACs", "Multiply-accumulate operations of one image."),
    ("BOPs", "Bit operations: MACs times the bits of both factors; what is not quantized counts 32 × 32."),
    ("Compute saved", "Share of full-depth MACs that is not spent, with patch embedding, blocks, every head and gate "
     "met on the way, and the products with the classes counted."),
    ("Blocks saved", "The paper's count: 1 − mean exit layer / depth."),
)  # fmt: skip
_STATISTICS: Entries = (
    ("n", "Number of images behind a number; test images where nothing else is said."),
    ("95 % interval", "Wilson's for accuracies, percentile bootstrap over images for differences (paired) and saved "
     "compute, Newcombe's for two independent sets, Hanley and McNeil's for the AUROC, chi-square for a standard "
     "deviation."),
    ("McNemar exact p", "Two-sided exact test on the images that change sides between two answers."),
    ("Holm", "Holm's step-down correction of p-values for the number of comparisons."),
    ("Undecided", "The interval includes 0."),
    ("SD over seeds", "Standard deviation when heads, gates and the dealing of development images are drawn anew; the "
     "test images stay."),
    ("Sampling SD", "Bootstrap standard deviation over test images of the first seed."),
    ("ε, δ", "Risk-controlled thresholds keep the risk at or below the allowed level ε with probability at least 1 − δ "
     "over the choice of the images that they were chosen on."),
    ("quant, fit, gate, select, test", "The five disjoint splits: quantizer ranges, heads, gates, every choice, and "
     "the numbers shown."),
    ("Spearman", "Rank correlation, from −1 to 1."),
)  # fmt: skip


def symbols(tables: ReportTables) -> tuple[tuple[str, Entries], ...]:
    """All definitions by topic, with the values that this experiment fixes."""
    fixed = [
        (label, number(float(tables.provenance[key]), digits))
        for key, label, digits in (("kappa", "κ", 2), ("depth", "depth", 0), ("delta", "δ", 2))
        if isinstance(tables.provenance.get(key), int | float)
    ]
    values: Entries = tuple((label, f"{value} in this experiment.") for label, value in fixed)
    return (
        ("Comparison", _COMPARISON), ("Model and quantization", _MODEL), ("Noise", _NOISE), ("Exits", _EXITS),
        ("Compute", _COMPUTE), ("Statistics", _STATISTICS), *([("Values", values)] if values else []),
    )  # fmt: skip
