#!/usr/bin/python3
"""Feeds carbon-cache over its line protocol: carbon_feed.py PORT METRICS SECONDS

Sends the last SECONDS seconds of each metric again and again, each round with other values, so that every update
rewrites many points of the finest archive and all that are computed from them. Runs until it is killed or carbon is.
"""
import itertools
import socket
import sys
import time


def main():
    port, metrics, seconds = map(int, sys.argv[1:])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as carbon:
        for turn in itertools.count(1):
            for metric in range(metrics):
                now = int(time.time())
                lines = [f"flockfs.metric{metric} {turn * 1000 + t % 100} {t}\n" for t in range(now - seconds, now)]
                carbon.sendall("".join(lines).encode())
            time.sleep(0.01)


main()
