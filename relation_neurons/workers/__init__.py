"""Workers: processes that each hold the model and share the work of a study, on one machine or on many."""
