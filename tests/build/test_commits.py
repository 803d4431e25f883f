# SPDX-License-Identifier: MIT
"""The check of commit subjects."""

import contextlib
import io
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import commits


class Subjects(unittest.TestCase):
    def test_what_is_said_of_them(self):
        for subject in ("Give memory back sooner", "magazine: Keep the depot's order", "Process what is due", "Focus on one",
                        "Need less", "x" * 72):
            self.assertEqual(commits.problem(subject), "", subject)
        for subject in ("Gives memory back", "Fixed a leak", "Fixing a leak", "The depot's order", "Two locks", "Stop here."):
            self.assertNotEqual(commits.problem(subject), "", subject)
        self.assertIn("73 characters; at most 72", commits.problem("x" * 73))


class Range(unittest.TestCase):
    """Only what the main branch does not have is looked at."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        patch = mock.patch.object(commits, "ROOT", self.root)
        patch.start()
        self.addCleanup(patch.stop)

    def git(self, *words):
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "-C", self.root, *identity, *words], check=True, capture_output=True)

    def check(self, *arguments):
        """(status, all that was said)"""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = commits.main(list(arguments))
        return status, said.getvalue()

    def test_commits_of_a_branch(self):
        self.git("init", "-q", "-b", "main")
        self.git("commit", "-q", "--allow-empty", "-m", "The first is as it is")
        self.git("checkout", "-q", "-b", "topic")
        self.git("commit", "-q", "--allow-empty", "-m", "Add one")
        self.assertEqual(self.check(), (0, ""))
        self.git("commit", "-q", "--allow-empty", "-m", "Added another")
        status, said = self.check()
        self.assertEqual(status, 1)
        self.assertRegex(said, r"^\w+ Added another: write it in the imperative")
        self.assertEqual(len(said.splitlines()), 1)
        self.assertEqual(self.check("topic"), (0, ""))

    def test_without_a_history_nothing_is_checked_and_the_reason_is_said(self):
        self.assertEqual(self.check()[0], 0)
        self.assertIn("skipped: this is no git repository", self.check()[1])
        self.git("init", "-q", "-b", "other")
        self.git("commit", "-q", "--allow-empty", "-m", "Added something")
        self.assertIn("skipped", self.check()[1])
