"""What every board for the newest trust bundle promises."""


def test_it_begins_empty(board):
    assert board.read() is None


def test_what_was_hung_out_last_is_read(board):
    board.hang('{"a":1}')
    assert board.read() == b'{"a":1}'
    board.hang("ü")
    assert board.read() == "ü".encode()


def test_only_what_was_read_is_replaced(board):
    board.replace(None, "first")
    assert board.read() == b"first"
    board.replace(None, "late")
    assert board.read() == b"first"
    board.replace(b"first", "second")
    assert board.read() == b"second"
