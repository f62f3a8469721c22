"""What runs scripts inside a zygote's child, one module for each executor.

Each has `run(path, args)`, which runs the script of a file and returns its exit code,
and `rehearse()`, which does in the zygote what every script makes it do: so its pages
are warm, and shared. One whose scripts end at once for lack of memory has
`say_no_memory_to(descriptor)` as well, by which they say it.

They import nothing that takes long, and all of ours at once: where a script runs, our
files may not be seen.
"""
