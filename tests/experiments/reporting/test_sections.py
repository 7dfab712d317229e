def test_a_quarter_of_the_bytes_a_number_pays_for_four_times_the_images(run, section):
    found = section(
        run("dm", config={"ipc": 10}, metrics={"accuracy": 0.8}),
        run("random", config={"ipc": 10, "store": "float32"}, metrics={"accuracy": 0.7}),
        run("best", config={"ipc": 39, "store": "uint8"}, metrics={"accuracy": 0.9}),
        run("random", config={"ipc": 1, "store": "uint8"}, metrics={"accuracy": 0.4}),
    )
    assert [[arm.name for arm in rivals] for rivals in found.rivals] == [
        ["best", "dm", "random"],
        ["random"],
    ]
