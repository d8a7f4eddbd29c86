"""boto3, a client of S3 made when it is imported."""

import json

import boto3
from places import WEB

client = boto3.client(
    "s3",
    endpoint_url=WEB,
    region_name="eu-west-1",
    aws_access_key_id="key",
    aws_secret_access_key="secret",
)


def work(n):
    return json.load(client.get_object(Bucket="numbers", Key=str(n))["Body"])["n"]
