# SPDX-License-Identifier: MIT
"""The layers of this tree, and that the checker sees when they are broken."""


import layers
from tree import ROOT, TreeTest


class Layers(TreeTest):
    def problems(self, path, text):
        """What the checker has to say about one line more in a file."""
        before = layers.check(self.tree.root)
        self.tree.append(path, text + "\n")
        return [problem for problem in layers.check(self.tree.root) if problem not in before]

    def refused(self, path, text, message):
        problems = self.problems(path, text)
        self.assertEqual(len(problems), 1, problems)
        self.assertIn(message, problems[0])

    def plugin(self, parent):
        return next(path for path in sorted((ROOT / parent).iterdir()) if path.is_dir()).name

    def test_this_tree_keeps_them(self):
        self.assertEqual(layers.check(ROOT), [])

    def test_upwards(self):
        self.refused("core/types.h", '#include "core/os.h"', "an include points downwards: types.h stands on compiler.h")
        self.refused("core/backend.h", '#include "core/frontend.h"', "an include points downwards: backend.h stands")

    def test_building_blocks_among_themselves(self):
        self.assertEqual(self.problems("core/os.h", '#include "core/atomic.h"'), [])
        self.refused("core/os.h", '#include "core/heap.h"', "an include points downwards: os.h stands on")

    def test_back_end_and_front_end(self):
        name = self.plugin("backends")
        self.refused(f"backends/{name}/{name}.h", '#include "core/frontend.h"', "an include points downwards")

    def test_policy_and_back_end(self):
        policy, back_end = self.plugin("policies"), self.plugin("backends")
        self.refused(
            f"policies/{policy}/{policy}.c",
            f'#include "backends/{back_end}/{back_end}.h"',
            "a plug-in sees core and itself, no other plug-in",
        )

    def test_policy_and_heap(self):
        policy = self.plugin("policies")
        self.refused(f"policies/{policy}/{policy}.c", '#include "core/heap.h"', "an include points downwards")
        self.refused(f"policies/{policy}/{policy}.h", "#include <hakmem/hakmem.h>", "stands on plug-ins, not under them")

    def test_core_and_plugins(self):
        self.refused("core/heap.c", '#include "policies/toy/toy.h"', "core sees plug-ins only through gen/backend.h")

    def test_core_names_no_plugin(self):
        name = self.plugin("policies")
        self.refused("core/heap.c", f"/* as {name} does */", f"names {name}: a plug-in is known only to its own folder")
        self.refused("SConstruct", f'x = "{name}"', f"names {name}")
        self.refused("Kconfig", f"config SLABS_IN_{name.upper()}S", f"names {name.upper()}")

    def test_conditions(self):
        self.refused("core/os.c", "#ifdef CONFIG_X", "no #if in a .c")
        self.assertEqual(self.problems("core/os.h", "#ifdef __cplusplus"), [])

    def test_generated_headers(self):
        self.refused("core/os.c", '#include "gen/identity.h"', "only core/identity.c may include it")

    def test_public_headers(self):
        self.refused("core/include/hakmem/hakmem.h", "#define X CONFIG_MIN_BLOCK", "an option of the configuration shows")
        self.refused("core/include/hakmem/hakmem.h", '#include "core/types.h"', "a public header includes only")

    def test_paths_from_elsewhere(self):
        self.refused("core/os.c", '#include "atomic.h"', "includes start at the root")

    def test_calls_upwards(self):
        """A call is seen where no include betrays it."""
        self.refused(
            "core/heap.c",
            "void hak_free(void *block);\nvoid hak_more(void)\n{\n    hak_free(0);\n}",
            "hak_free() is core/malloc.c's, which stands above core/heap.c: a call points downwards",
        )

    def test_calls_in_a_circle(self):
        self.tree.write("core/one.c", "void hak_one(void)\n{\n    hak_two();\n}\n")
        problems = self.problems("core/two.c", "void hak_two(void)\n{\n    hak_three();\n}")
        self.assertEqual(problems, [])
        problems = self.problems("core/three.h", "static inline void hak_three(void)\n{\n    hak_one();\n}")
        self.assertEqual(len(problems), 1, problems)
        self.assertIn("core/one -> core/two -> core/three: calls go in a circle", problems[0])
        self.assertIn("core/three.h:3 calls hak_one() of core/one", problems[0])

    def test_calls_in_a_circle_within_a_plugin(self):
        folder = f"backends/{self.plugin('backends')}"
        self.tree.write(f"{folder}/one.c", "void one(void)\n{\n    two();\n}\n")
        problems = self.problems(f"{folder}/two.c", "void two(void)\n{\n    one();\n}")
        self.assertEqual(len(problems), 1, problems)
        self.assertIn("calls go in a circle", problems[0])

    def test_what_is_no_call(self):
        """Declarations, comments, texts, static functions of the same name, hooks, and what ends the process."""
        for text in (
            "void hak_free(void *block);",
            "/* hak_free() */",
            'static const char *const NAME = "hak_free()";',
            "static void hak_free(void *block)\n{\n}\nvoid hak_more(void)\n{\n    hak_free(0);\n}",
            'extern void hak_free(void *) __attribute__((weak));\nvoid hak_more(void)\n{\n    hak_free(0);\n}',
            "void hak_more(void)\n{\n    hak_check(0);\n}",
        ):
            with self.subTest(text):
                before = (self.tree.root / "core/os.c").read_text()
                self.assertEqual(self.problems("core/os.c", text), [])
                self.tree.write("core/os.c", before)
