"""Parts of ``qwen_validate.py``.

options       the command line
presets       names of the models and defaults of a run
orders        which training stages an order has, where they start, which policy is ref
models        the model of a run, from scratch or loaded, whole or with LoRA
progress      progress bars
run_folder    the files of a run: configuration, environment, metrics, checkpoints
pareto        the plot of SFT loss against reward with the limits that the theory sets
html          a report as one HTML file; report_base.html.j2 is what the two protocols' reports share
style         colours and settings of all plots
errors        the base of the errors that a run explains to its user
enumerated/   the protocol whose responses are listed, so that every quantity is an exact sum
sampled/      the protocol of free generation, whose statements get verdicts at a level of confidence
"""
