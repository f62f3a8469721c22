"""What runs scripts inside a zygote's child, one module for each executor.

Each has `run(path, args)`, which runs the script of a file and returns its exit code,
and `rehearse()`, which does in the zygote all that scripts make it do: so its pages are
warm, and shared. `warm_up()` does in a child, before there is a script for it, the
least that every script does; what one does beyond that, it pays for alone. A host whose
scripts end at once for lack of memory has `say_no_memory_to(descriptor)` as well, by
which they say it.

They import nothing that takes long, nothing that has to be done in the child of every
fork (by `threading`, which comes with `subprocess`), and all of ours at once: where a
script runs, our files may not be seen.
"""
