"""What people ask of the content service, by the kinds of those ops: none of them is on a shard.

And the ids of its jobs: which belongs to which change of an article (``services/README.md``).
"""

OF_ARTICLES = ("content.create", "content.update", "content.read", "content.list")
_PREFIX = "article-changed/"


def job_of(article: str, op: str) -> str:
    """The job of a change, by the article and the id of the op: its row and its message are that."""
    return f"{_PREFIX}{article}/{op}"


def change_of(job: str) -> str:
    """The op that a job is of, "" for what is none."""
    return job.rpartition("/")[2] if is_job(job) else ""


def is_job(value: str) -> bool:
    """Whether a message is a job of the content service, and none of the load's own."""
    return value.startswith(_PREFIX)
