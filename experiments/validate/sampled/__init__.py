"""The sampled protocol, in the order in which a run uses its parts.

sentence    a sentence and its label
sentences   sentences with acceptability labels, from the grammar, CoLA or a file in its format
grammar     the embedded sentences
inputs      the sentences and the reward of a run, and whether they are still the same
task        prompts, expert responses and their law, and the order in which training sees them
chat        the prompts as the model is asked them, plain or in its chat template
rewards     built-in rewards, or one's own, checked
drawing     responses of ref that a stage is trained on, drawn once for all processes and kept
own_responses  what SFT on ref's own responses trains on
training    SFT, weighted SFT, RL, joint training and alternation by the trainers of TRL
trl_options  what --rl sets in TRL's configuration
lengths     whether prompts and responses fit the model
per_token   what the scorer says of each token, as one array
measuring   what is measured of a trained policy, kept as it comes
forecasting  the forecast of RL, from what was measured of its ref
run         all stages of a run, with progress and the means to go on
resampling  bootstrap intervals, which say nothing where there are too few prompts
claims      the statements as margins, each a function from a level to an interval
landscape   the finite world that samples suggest, for predictions and curves
ends        where alternation and SFT on ref's own responses end in it
digest      verdicts on all claims at once, and the plan from the pilot prompts
tables      what the report shows next to the verdicts
first_screen  the five numbers that a reader sees first
examples    responses that the model wrote, before RL and after it
story       the sentences of the report
plots       the plots, as SVG
report      report.json, report.html and what the terminal shows
"""
