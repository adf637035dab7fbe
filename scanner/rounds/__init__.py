"""What both kinds of scan share: passes over silent targets, the rate, the schedule of host ranges, statistics.

Pure: no module here opens a socket, reads a clock or draws a random number.
"""
