"""Schedulers and workers as containers of Hadoop YARN, by skein."""
