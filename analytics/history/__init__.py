"""«Did this customer get the receipt?»: what happened to the messages of one recipient.

Invariants:
1. Pure but for what callers pass in: ``questions`` has the queries, ``answer`` makes a history of
   their rows, ``words`` says it to people who are no engineers.
2. ``mailpulse trace`` and the dashboard's page give the same answer.
3. An answer names the range of time that was searched, and says if it is not all.
"""
