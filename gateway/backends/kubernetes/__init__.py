"""Schedulers and workers as pods of Kubernetes, with the rights of one namespace.

`names`, `merge`, `manifests`, `states`, `refusals` and `cache` are pure; `api`, `informer`, `logs`
and `backend` touch the world.
"""
