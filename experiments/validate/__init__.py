"""Parts of ``qwen_validate.py``.

options        the command line
configuration  everything that influences the numbers of a run, per protocol, and its defaults
session        what a protocol is given and what it returns
orders         which training stages an order has, where they start, which policy is ref
expert_law     how experts answer: the data law of both protocols
models         the model of a run, from scratch or loaded, whole or with LoRA
progress       progress bars
output         what a run says, which may fail without ending the run
requirements   whether what a run needs is installed
places         where run folders lie: a free place, the newest run
run_folder     the files of a run: configuration, environment, metrics, checkpoints
checksums      checksums that files carry themselves, so that a run reads what it wrote
disk           files that are whole or not there, lines that are added whole, and the lock
environment    versions, device and commit of a session
same_reward    the exact optimum of a leash that has a given average reward
pareto         the plot of SFT loss against reward with the limits that the theory sets
reports        what the reports of both protocols share, and the order in which their files are written
forecasts      what a run writes down of RL before its first step
finished_runs  what the scripts share that read finished runs
first_screen   what a report shows before anything else
html           a report as one HTML file; report_base.html.j2 is what the two protocols' reports share
errors         the errors that a run explains to its user
enumerated/    the protocol whose responses are listed, so that every quantity is an exact sum
sampled/       the protocol of free generation, whose statements get verdicts at a level of confidence
"""
