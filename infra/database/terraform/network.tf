# A private subnet that has no route but the VPC's own and the one to S3.

data "aws_vpc" "existing" {
  count = var.vpc_id == null ? 0 : 1
  id    = var.vpc_id
}

resource "aws_vpc" "this" {
  # checkov:skip=CKV2_AWS_11:Flow logs cost by traffic and are the account's decision.
  count = var.vpc_id == null ? 1 : 0

  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = var.name }
}

# The default group of a new VPC lets its members talk to each other and to the world. Nothing uses it.
resource "aws_default_security_group" "closed" {
  count  = var.vpc_id == null ? 1 : 0
  vpc_id = aws_vpc.this[0].id
}

locals {
  vpc_id   = var.vpc_id == null ? aws_vpc.this[0].id : var.vpc_id
  vpc_cidr = var.vpc_id == null ? var.vpc_cidr : data.aws_vpc.existing[0].cidr_block
}

resource "aws_subnet" "private" {
  vpc_id                  = local.vpc_id
  cidr_block              = var.subnet_cidr
  availability_zone       = var.availability_zone
  map_public_ip_on_launch = false

  tags = { Name = "${var.name}-private" }
}

# No route block and no aws_route: without one, only the VPC is reachable. The gateway endpoint adds the one to S3.
resource "aws_route_table" "private" {
  vpc_id = local.vpc_id

  tags = { Name = "${var.name}-private" }
}

resource "aws_route_table_association" "private" {
  subnet_id      = aws_subnet.private.id
  route_table_id = aws_route_table.private.id
}
