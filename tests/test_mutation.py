"""The list of mutants that may survive is of the code as it stands."""

from .mutation.run import CHECKOUT, JUDGES, PACKAGE, accepted


def test_each_listed_mutant_is_of_a_line_that_is_still_there():
    assert accepted()  # or it has said which is not


def test_there_is_a_test_file_for_each_module_that_is_broken():
    for module, judges in JUDGES.items():
        assert (CHECKOUT / PACKAGE / f"{module}.py").exists()
        assert [name for name in judges.split() if not (CHECKOUT / "tests" / f"test_{name}.py").exists()] == []
