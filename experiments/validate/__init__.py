"""Parts of ``qwen_validate.py``, in the order in which a run uses them.

presets     names of the models and defaults of a run
data        prompts, candidate responses, the data law and the reward
models      a causal language model and its tokenizer, from scratch, a folder, the hub or a package
enumerate   the exact law of a model over the candidates and the atom `other`
stages      which training stages an order has, and one stage of SFT or RL
run         all stages of a run, with checkpoints and progress
run_folder  the files of a run: configuration, environment, metrics, checkpoints
tolerances  how far two floating-point routes to one number may lie apart
checks      the statements, evaluated on the recorded policies
digest      verdicts per statement, predictions, the sentences of the summary
plots       PNG plots
report      report.json, report.html and what the terminal shows
"""
