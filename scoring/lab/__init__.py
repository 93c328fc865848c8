"""The mechanism lab's numbers: attacks on a round, statistics over rounds, the analyses that its reports show."""
