"""Does an adversarially robust model transfer better to my images? (Salman et al. 2020)"""
