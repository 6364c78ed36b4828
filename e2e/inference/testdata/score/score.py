import os


def init():
    print("a line of init()")


def run(data):
    with open("/opt/words/words.txt") as f:
        return [os.environ["GREETING"], f.read().strip()]
