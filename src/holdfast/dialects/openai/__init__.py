"""OpenAI's spelling: requests as clients send them, answers as OpenAI's servers send them, and what both mean."""
