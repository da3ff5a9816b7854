"""Synthetic English: sentences, entailment pairs and questions from a grammar written by hand.

Everything here is synthetic. The sentences follow our grammar and use our few hundred words; scores
on them say nothing about English, nor about how a model fares on any real corpus. They are there so
that tests and the demo run anywhere, offline, on annotation that is right by construction.

Each sentence has one derivation, a tree of phrases (`tree`) built from a meaning (`meaning`,
`scene`) by a grammar (`noun_phrases`, `clauses`, `sentences`), and all layers are read off it
(`layers`): words, tags, dependencies, constituents, entities, semantic roles, coreference,
proto-roles and relations. What a model can learn from them is in the lexicon (`nouns`, `verbs`,
`names`, `knowledge`): which verbs take instruments, who is meant by a pronoun, what is part of what.

The same seed gives the same text for ever. A longer draw begins with the shorter one.
"""
