"""What backends over a batch system share, whatever the batch system is called.

A backend of a batch system is `base.BatchBackend` with a `system.BatchSystem`: four calls (submit,
cancel, jobs, ended) that speak the batch system's own words. Everything else lives here:

| module | question | pure |
|---|---|---|
| `names` | which job is which instance, and back | yes |
| `arrays` | which launches travel in one submission | yes |
| `script` | what a job's script says | yes |
| `sight` | what a listing of jobs tells of instances; which jobs are doubled | yes |
| `system` | data and protocol between this layer and one batch system | yes |
| `logfiles` | which log file is which instance's | yes |
| `commands` | how a command is run: argv, deadline, bound, locale | no |
| `identity` | as whom commands run, and how files are made and read as that user | no |
| `base` | the backend: contract.Backend over a BatchSystem | no |
"""
