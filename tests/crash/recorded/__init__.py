"""The real engine, real files, real threads, recorded call by call; and the crashes that follow."""
