# SPDX-License-Identifier: MIT
"""That back ends have nothing in common, and that the search finds what they would have."""

import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

import alike
from tree import ROOT

LIST = """
static void list_remove(struct list *list, struct slab *slab)
{
    if (slab->next)
        slab->next->previous = slab->previous; /* it is not the last */
    *(slab->previous ? &slab->previous->next : &list->first) = slab->next;
    slab->next = slab->previous = NULL;
    list->count--;
}
"""
RENAMED = """
void drop(struct chain *all,
          struct extent *gone)
{
    if (gone->younger) {
        gone->younger->older =
            gone->older;
    }

    *(gone->older ? &gone->older->younger
                  : &all->oldest) = gone->younger;
    gone->younger = gone->older = NULL;
    all->length--;
}
"""


class Alike(unittest.TestCase):
    def found(self, one, other):
        with TemporaryDirectory() as folder:
            for name, text in (("one", one), ("other", other)):
                (Path(folder) / name).mkdir()
                (Path(folder) / name / "list.c").write_text(text, encoding="utf-8")
            return alike.compare(Path(folder) / "one", Path(folder) / "other")

    def test_back_ends_have_nothing_in_common(self):
        self.assertEqual(alike.main([]), 0)

    def test_as_it_is(self):
        self.assertEqual(self.found(LIST, "\n\n" + LIST), ["other/list.c:4-10 is like one/list.c:2-8"])

    def test_with_other_names_and_in_another_form(self):
        self.assertEqual(len(self.found(LIST, RENAMED.replace("void", "static void"))), 1)

    def test_another_order_is_another_thing(self):
        self.assertEqual(self.found(LIST, LIST.replace("= slab->previous;", "= slab->next;")), [])
        self.assertEqual(self.found(LIST, LIST.replace("list->count--", "list->count++")), [])

    def test_five_lines_may_be_alike(self):
        self.assertEqual(self.found(LIST, LIST.replace("list->count--;", "")), [])

    def test_the_search_sees_back_ends_and_spaces(self):
        for kind in alike.KINDS:
            folders = [path for path in (ROOT / kind).iterdir() if path.is_dir()]
            self.assertGreaterEqual(len(folders), 2)
            for folder in folders:
                self.assertGreater(len(list(alike.windows(folder))), 100)
                self.assertNotEqual(alike.compare(folder, folder), [])
