"""A folder for each task: corpus.py reads and shows records, synthetic.py makes some, score.py."""
