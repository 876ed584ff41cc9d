"""The only place that knows TransformerLens: load a model, name its neurons, hook it, run it on token ids.

Up to TransformerLens 3.9 a loaded model is a `HookedTransformer`; from 4.0 on, which has none, a `TransformerBridge`.
Both take the same hook names, and everything else in the package treats them alike.
"""
