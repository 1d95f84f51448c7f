from mochi_aot.runtime.cache import ensure_temporary_files

ensure_temporary_files()  # before anything here imports torch
