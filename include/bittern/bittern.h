// The library in one include.
#pragma once

#include <bittern/error.h>
#include <bittern/model.h>
#include <bittern/session.h>
#include <bittern/system.h>
#include <bittern/tensor.h>
