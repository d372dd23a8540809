"""Pages to send: report.html of a run, a group or several, and the same in the terminal."""
