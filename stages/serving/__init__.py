"""Trained runs that are loaded once and answer as often as they are asked: at a prompt, in a local
page, and by OpenAI's protocol.
"""
