"""What is kept in memory, and how much of it."""

from app.platform.memory import Memory


class TestMemory:
    def test_gives_what_was_put(self) -> None:
        memory: Memory[str, int] = Memory(10)
        memory.put("a", 1, 1)

        assert memory.get("a") == 1
        assert memory.get("b") is None

    def test_never_holds_more_than_its_capacity(self) -> None:
        memory: Memory[int, int] = Memory(20)
        for number in range(1_000):
            memory.put(number, number, 1 + number % 4)

            held = [*memory._young.values(), *memory._old.values()]
            assert sum(size for _, size in held) <= 20

    def test_forgets_first_what_nobody_asks_for(self) -> None:
        memory: Memory[str, int] = Memory(20)
        memory.put("wanted", 1, 1)
        memory.put("unwanted", 2, 1)
        for number in range(200):
            memory.put(f"other {number}", number, 1)
            assert memory.get("wanted") == 1

        assert memory.get("unwanted") is None

    def test_a_new_value_takes_the_place_of_the_old_one(self) -> None:
        memory: Memory[str, int] = Memory(20)
        for number in range(50):
            memory.put("same", number, 9)

        assert memory.get("same") == 49
        assert (len(memory._young), len(memory._old)) == (1, 0)

    def test_what_is_too_large_is_not_kept_and_drives_nothing_out(self) -> None:
        memory: Memory[str, int] = Memory(20)
        memory.put("small", 1, 1)
        memory.put("large", 2, 11)

        assert memory.get("large") is None
        assert memory.get("small") == 1

    def test_what_became_too_large_is_gone(self) -> None:
        memory: Memory[str, int] = Memory(20)
        memory.put("same", 1, 1)
        memory.put("same", 2, 11)

        assert memory.get("same") is None
