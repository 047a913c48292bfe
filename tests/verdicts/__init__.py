"""What verdicts on opens and clicks are worth: a simulation that knows the truth, and a score.

Invariants:
1. Written from published facts about mailbox proxies, scanners and people, by someone who had not
   read the rules that it scores. No module here imports them or their tables; a test says so.
2. A simulated event reaches the fold as a real one does: a provider's payload, read by the
   provider's own parser.
3. The truth of an event never depends on a verdict; a verdict never sees the truth.
4. Everything is a function of the seed. One campaign is in memory at a time.
"""
