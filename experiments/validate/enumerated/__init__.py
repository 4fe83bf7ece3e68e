"""The enumerated protocol, in the order in which a run uses its parts.

task        prompts, candidate responses, the data law and the reward
facts       the embedded task
task_file   a task of one's own, from a file
inputs      the task that a configuration names
head_precision  what the model's head is applied in, and the record of it
endings     where the theory says that a stage ends, and recipes that end nowhere
forecasting  the forecast of RL, from responses drawn from its ref
training    what a stage optimises, and its steps
run         all stages of a run, with checkpoints and progress
tolerances  how far two floating-point routes to one number may lie apart
means       the quantities of the theory, averaged over the prompts
measures    what is reported at every checkpoint
episodes    the recorded policies, and the episodes that they form
checks      the statements, evaluated on the recorded policies
ending_checks  the statements of the second chapter, on stages with such an end
digest      verdicts per statement, and predictions
first_screen  the five numbers that a reader sees first
story       the sentences of the report
plots       the plots, as SVG
report      report.json, report.html and what the terminal shows
coupling    how far training on one prompt moves the losses of others (P6, D1)
"""
