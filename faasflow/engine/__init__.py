"""What happens to a request: its states, its ledger, and the deliveries that carry it forward.

Start reading at `executor` (one delivery), then `plan` (what follows from what), `ledger` (what is recorded) and
`joins`.
"""
