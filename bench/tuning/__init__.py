# SPDX-License-Identifier: MIT
"""The search of `scons tune`, from the bottom up:

space      what may be varied, from the Kconfig tree; points as configurations
journal    what was measured, kept line by line
far        blocks that other machines make
race       candidates run in blocks; those that are worse leave
search     the loop around races, and the fresh measurement at its end
report     the paragraph, the configuration, the page
"""
