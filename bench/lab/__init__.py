# SPDX-License-Identifier: MIT
"""The parts of the A/B runner, from the bottom up; a module imports only those above it.

estimate    numbers in, ratio and interval out; knows nothing of programs
workloads   the table of what can be run
programs    programs of the user's as workloads
libraries   which malloc is under test, what it says it is, whether it really serves a program
copies      private copies of libraries and workloads: what is measured does not change meanwhile
runs        one run of one workload under one library: time, memory, or how it failed
machine     the machine that the figures were measured on
comparison  which runs, in which order, within which budget
counters    what the processor does for one operation, from perf or simulated
record      a comparison as data, kept as a JSON file; the modules below know nothing else
text        figures and names as they are written
evaluation  one command that measures one workload wherever it is run: a bundle in, a line of JSON out
engine      who runs evaluations on other machines: GNU parallel, Slurm
spread      a comparison that an engine makes
verdict     what a record says of A, row by row and in all
matrix      all workloads by all libraries
present     the tables in the terminal, and the progress line
figures     plots of a record
page        a record as an HTML page
export      a record as CSV and as Markdown
callgrind   instruction counts, for bench/instructions.py
whole_runs  the programs whose whole runs it counts
scaling     counts of what threads share, for bench/performance.py
document    results that are kept in a page of doc/
wishes      what the user asks for, checked
"""
