"""What each neuron contributes to a model's answers: estimates from gradients, and true ablations of single neurons."""
