"""The parts of the Python SDK that the sync and the async client share: types, requests, folds."""
