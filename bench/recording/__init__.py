# SPDX-License-Identifier: MIT
"""Recordings of programs: bench/record makes them, bench/trace looks at them. From the bottom up:

library    what trace.c reads, writes and sorts, as arrays of numpy
recording  files and folders as recordings, a process each
checking   every invariant of a recording
measures   what a recording says of its program
cutting    a part of a recording, or one without addresses; one file of many
importing  traces of other projects
script     a recording as what bench/replay reads
classes    what tables of size classes waste, and the tables that waste least
charts     the plots, and the page
making     running a program so that it is recorded
"""
