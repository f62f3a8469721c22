"""The executors, and the Celery task that leads to them."""
